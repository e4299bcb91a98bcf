"""Text of headings cannot become markup."""

import unittest

from slugline import anchor, contents

HOSTILE = '<script>alert("1 & 2")</script>'


class EscapeTest(unittest.TestCase):
    def test_a_heading_shows_its_text_and_runs_nothing(self) -> None:
        page = anchor(HOSTILE)
        self.assertNotIn("<script", page)
        self.assertIn("&lt;script&gt;alert(&quot;1 &amp; 2&quot;)&lt;/script&gt;", page)

    def test_contents_are_escaped_too(self) -> None:
        page = contents(["Safe", HOSTILE])
        self.assertNotIn("<script", page)
        self.assertIn("1 &amp; 2", page)

    def test_a_level_that_html_does_not_have_is_refused(self) -> None:
        for level in (0, 7, '2 onclick="x"'):
            with self.assertRaises(ValueError):
                anchor("Title", level=level)

    def test_plain_headings_stay_as_they_were(self) -> None:
        self.assertEqual(anchor("Getting started"), '<h2 id="getting-started">Getting started</h2>')
