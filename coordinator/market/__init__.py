"""The market: offers, clearing, exact coupling across regions, and its integer certificate."""
