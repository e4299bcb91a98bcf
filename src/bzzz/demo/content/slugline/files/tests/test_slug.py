"""Slugs."""

import unittest

from slugline import is_slug, slugify


class SlugifyTest(unittest.TestCase):
    def test_words_are_joined_by_the_separator(self) -> None:
        self.assertEqual(slugify("Hello, World!"), "hello-world")
        self.assertEqual(slugify("Hello, World!", "_"), "hello_world")

    def test_digits_stay(self) -> None:
        self.assertEqual(slugify("Release 2.0"), "release-2-0")

    def test_no_separator_stands_at_either_end(self) -> None:
        self.assertEqual(slugify("  -- again -- "), "again")

    def test_nothing_gives_an_empty_slug(self) -> None:
        self.assertEqual(slugify("?!"), "")


class IsSlugTest(unittest.TestCase):
    def test_slugs_are_recognised(self) -> None:
        for text in ("a", "hello-world", "release-2-0"):
            self.assertTrue(is_slug(text), text)

    def test_other_texts_are_not(self) -> None:
        for text in ("", "-a", "a-", "a--b", "Hello", "a b", "a\n"):
            self.assertFalse(is_slug(text), text)


if __name__ == "__main__":
    unittest.main()
