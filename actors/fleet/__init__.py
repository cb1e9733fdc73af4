"""Devices of one region in columns: what they offer, obey, do and sign. Pure: no Ray, clock, socket or file.

plan      what a fleet is made of; `shards` cuts it without changing what any device does
case_plan from a case and its series to the plans of its regions
storage   what stored energy is worth, and a battery's offer from that
resources what resources offer and do, interval after interval
devices   the columns: names, keys, which meter measures which share of which resource
orders    dispatch instructions, and when a device obeys one
readings  what meters say, truthfully or not, and the columns they sign
fleet     all of it together, interval after interval
"""
