"""Items keep their places when others come and go."""

import pytest

from hf_encoders.data.layout import Growth, Items, Layout, Part


def follow(before, *later):
    layout, growth = Layout.of(before), Growth()
    for items in later:
        layout, growth = layout.follow(items)
    return layout, growth


def test_a_new_item_comes_after_all_others_in_a_part_of_its_own():
    layout, growth = follow(Items(["a", "c", "d"], [1, 1, 1]), Items(["a", "b", "c", "d"], [1, 1, 1, 1]))
    assert layout.present == ["a", "c", "d", "b"]
    assert layout.parts(2) == [Part(0, 0, 2), Part(1, 2, 1), Part(2, 3, 1)]
    assert growth == Growth(new_rows=1)


def test_an_item_that_went_changes_its_own_part_alone():
    layout, growth = follow(Items(["a", "b", "c", "d"], [3, 2, 4, 1]), Items(["a", "c", "d"], [3, 4, 1]))
    assert growth == Growth(removed_rows=2)
    assert layout.parts(4) == [Part(0, 0, 3), Part(1, 3, 3), Part(2, 6, 2)]  # of rows 0-3, 4-7 and 8-9 before
    returned, growth = layout.follow(Items(["a", "b", "c", "d"], [3, 2, 4, 1]))
    assert returned.parts(4)[:3] == layout.parts(4) and returned.parts(4)[3:] == [Part(3, 8, 2)]
    assert growth == Growth(new_rows=2)


def test_an_item_with_other_rows_is_another():
    layout, growth = follow(Items(["a", "b"], [3, 2]), Items(["a", "b"], [5, 2]))
    assert layout.present == ["b", "a"] and growth == Growth(changed_rows=5)
    assert layout.parts(10) == [Part(0, 0, 2), Part(1, 2, 5)]


def test_a_part_without_rows_keeps_its_number():
    layout, _ = follow(Items(["a", "b"], [2, 2]), Items(["b"], [2]), Items(["b", "c", "d"], [2, 0, 1]))
    assert layout.parts(2) == [Part(0, 0, 0), Part(1, 0, 2), Part(2, 2, 1)]


@pytest.mark.parametrize(("rows", "parts"), [([], [Part(0, 0, 0)]), ([0, 0], [Part(0, 0, 0)]), ([1], [Part(0, 0, 1)])])
def test_no_rows_are_one_part(rows, parts):
    assert Layout.of(Items([str(number) for number in range(len(rows))], rows)).parts(3) == parts


def test_what_is_as_it_was_has_not_grown():
    items = Items(["a", "b"], [1, 2])
    layout, growth = follow(items, items)
    assert layout == Layout.of(items) and not growth


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        (Items(["a", "b", "c"], [2, 2, 5]), None),
        (Items(["a"], [2]), None),
        (Items(["a", "b"], [2, 3]), None),
        (Items(["a", "ab", "b"], [2, 1, 2]), "b"),
        (Items(["b"], [2]), "b"),
        (Items(["a", "b"], [3, 2]), "b"),
    ],
)
def test_rows_that_get_other_numbers_are_found(now, moved):
    assert Layout.of(Items(["a", "b"], [2, 2])).first_moved(now) == moved
