"""Every public loss goes through the battery."""

import headwise as hw
from tests.losses._families import FAMILIES

# No losses themselves; each has a test file of its own.
OTHERS = {"checked", "deep_supervision", "distance_transform"}


def test_every_loss_has_one_entry():
    names = [name for family in FAMILIES for name in family.ENTRIES]
    assert len(set(names)) == len(names)
    wrong = set(names) ^ (set(hw.losses.__all__) - OTHERS)
    assert not wrong, f"entries in tests/losses/_*_entries.py: {sorted(wrong)}"


def test_entries_are_about_the_loss_of_their_name():
    for family in FAMILIES:
        for name, entry in family.ENTRIES.items():
            if name == "mix":  # a mixture has no name of its own
                continue
            loss = getattr(entry.loss, "func", entry.loss)
            assert getattr(loss, "__wrapped__", loss) is getattr(hw.losses, name)
