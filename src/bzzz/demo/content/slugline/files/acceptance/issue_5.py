"""The tests of ``truncate`` pass, and notice each way in which it could be wrong."""

import importlib
import unittest

import slugline
from slugline import shorten

RIGHT = shorten.truncate


def cuts_within_words(slug, length, separator="-"):
    if length < 1:
        raise ValueError(length)
    return slug[:length]


def drops_a_word_that_just_fits(slug, length, separator="-"):
    if length < 1:
        raise ValueError(length)
    if len(slug) <= length:
        return slug
    boundary = slug[:length].rfind(separator)
    return slug[:boundary] if boundary > 0 else slug[:length]


def loses_a_long_first_word(slug, length, separator="-"):
    result = RIGHT(slug, length, separator)
    return result if slug.startswith(result + separator) or result == slug else ""


def cuts_what_fits(slug, length, separator="-"):
    return RIGHT(slug, length, separator) if len(slug) != length else RIGHT(slug, max(1, length - 1), separator)


def allows_no_length(slug, length, separator="-"):
    return RIGHT(slug, length, separator) if length > 0 else ""


def ignores_the_separator(slug, length, separator="-"):
    return RIGHT(slug, length)


WRONG = (
    cuts_within_words,
    drops_a_word_that_just_fits,
    loses_a_long_first_word,
    cuts_what_fits,
    allows_no_length,
    ignores_the_separator,
)


def passes(function):
    """Whether tests/test_shorten.py passes with ``function`` in the place of ``truncate``."""
    shorten.truncate = slugline.truncate = function
    try:
        tests = importlib.reload(importlib.import_module("tests.test_shorten"))
        suite = unittest.defaultTestLoader.loadTestsFromModule(tests)
        result = unittest.TestResult()
        suite.run(result)
        return result.testsRun > 0 and result.wasSuccessful()
    finally:
        shorten.truncate = slugline.truncate = RIGHT


class CoverageTest(unittest.TestCase):
    def test_the_right_function_passes(self) -> None:
        self.assertTrue(passes(RIGHT))

    def test_each_wrong_function_is_noticed(self) -> None:
        for function in WRONG:
            with self.subTest(function.__name__):
                self.assertFalse(passes(function))
