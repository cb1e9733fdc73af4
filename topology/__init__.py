"""The physical grid: readers, validation, regions and linear models. Nothing here knows orders, money or keys."""
