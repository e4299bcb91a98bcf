"""Accented letters are kept as their plain letters."""

import unittest

from slugline import is_slug, slugify


class AccentTest(unittest.TestCase):
    def test_marks_are_dropped_and_letters_stay(self) -> None:
        self.assertEqual(slugify("Crème brûlée"), "creme-brulee")
        self.assertEqual(slugify("Señor Ñandú"), "senor-nandu")

    def test_composed_and_decomposed_forms_give_the_same_slug(self) -> None:
        self.assertEqual(slugify("cafe\u0301"), slugify("caf\u00e9"))
        self.assertEqual(slugify("cafe\u0301"), "cafe")

    def test_letters_without_a_decomposition_are_spelled_out(self) -> None:
        self.assertEqual(slugify("Straße"), "strasse")
        self.assertEqual(slugify("Smørrebrød"), "smorrebrod")
        self.assertEqual(slugify("Ærø"), "aero")
        self.assertEqual(slugify("Łódź"), "lodz")

    def test_the_result_is_always_a_slug(self) -> None:
        for title in ("Œuvre ½", "ﬁne", "Þing", "naïve — déjà vu"):
            self.assertTrue(is_slug(slugify(title)), title)
