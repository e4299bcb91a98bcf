"""Items and stock."""

import unittest

from stockroom.item import Item, Stock, StockError, key_of


class StockTest(unittest.TestCase):
    def test_a_key_is_made_of_the_words_of_the_name(self) -> None:
        self.assertEqual(key_of("Hex bolt M6 (steel)"), "hex-bolt-m6-steel")

    def test_adding_twice_counts_up(self) -> None:
        stock = Stock()
        stock.add("Hex bolt", 3)
        self.assertEqual(stock.add("hex BOLT", 4).quantity, 7)

    def test_taking_counts_down_to_nothing_and_no_further(self) -> None:
        stock = Stock([Item("Nut", 2)])
        self.assertEqual(stock.take("nut", 2).quantity, 0)
        with self.assertRaisesRegex(StockError, "only 0 of 'Nut' are there, not 1"):
            stock.take("nut", 1)

    def test_what_is_not_there_cannot_be_taken(self) -> None:
        with self.assertRaisesRegex(StockError, "no item 'glue'"):
            Stock().take("glue", 1)

    def test_a_name_needs_a_letter_or_digit(self) -> None:
        with self.assertRaisesRegex(StockError, "no letter or digit"):
            Stock().add("?!", 1)


if __name__ == "__main__":
    unittest.main()
