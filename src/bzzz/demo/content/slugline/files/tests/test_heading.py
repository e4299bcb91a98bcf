"""Headings and tables of contents."""

import unittest

from slugline import anchor, contents


class HeadingTest(unittest.TestCase):
    def test_a_heading_carries_its_slug(self) -> None:
        self.assertEqual(anchor("Getting started"), '<h2 id="getting-started">Getting started</h2>')

    def test_the_level_can_be_chosen(self) -> None:
        self.assertEqual(anchor("Title", level=1), '<h1 id="title">Title</h1>')

    def test_contents_link_to_the_headings(self) -> None:
        self.assertEqual(
            contents(["One", "Two more"]),
            '<ul><li><a href="#one">One</a></li><li><a href="#two-more">Two more</a></li></ul>',
        )


if __name__ == "__main__":
    unittest.main()
