"""Slugs that are told apart."""

import unittest

import slugline


class UniqueTest(unittest.TestCase):
    def test_a_free_slug_stays(self) -> None:
        self.assertEqual(slugline.unique("intro", []), "intro")

    def test_the_first_free_number_is_appended(self) -> None:
        self.assertEqual(slugline.unique("intro", ["intro"]), "intro-2")
        self.assertEqual(slugline.unique("intro", {"intro", "intro-2", "intro-4"}), "intro-3")

    def test_another_separator_can_be_chosen(self) -> None:
        self.assertEqual(slugline.unique("intro", ["intro"], separator="_"), "intro_2")

    def test_a_length_is_kept_by_shortening_the_words(self) -> None:
        taken = ["long-title"]
        self.assertEqual(slugline.unique("long-title", taken, length=10), "long-2")
        with self.assertRaises(ValueError):
            slugline.unique("a", ["a"], length=2)

    def test_it_is_exported(self) -> None:
        self.assertIn("unique", slugline.__all__)

    def test_taken_slugs_may_come_from_an_iterator(self) -> None:
        self.assertEqual(slugline.unique("a", iter(["a", "a-2"])), "a-3")
