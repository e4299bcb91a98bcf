"""The shells around a core: they feed it what happened and carry out what it wants, through ports alone."""
