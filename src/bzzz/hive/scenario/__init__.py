"""Scenarios: a Hive with projects that really exist on its embedded forge, tasks that arrive, and faults on demand.

``script`` reads a scenario's file, ``plan`` makes a seeded timetable of it (both pure), ``fault`` spoils answers,
``director`` carries the timetable out, and ``trigger`` plays calls against whatever Hive runs. Nodes meet nothing
here that they would not meet in earnest.
"""
