"""The only reader of settings: a TOML or YAML file, then the environment, then flags.

``setting`` holds the table of all settings, ``value`` what their values may be, ``secret`` reads the files
that hold secrets, and ``load`` puts it together.
"""

from bzzz.config.load import HIVE_KEY_VARIABLE as HIVE_KEY_VARIABLE
from bzzz.config.load import Config as Config
from bzzz.config.load import load as load
from bzzz.config.secret import read_secret as read_secret
from bzzz.config.setting import SETTINGS as SETTINGS
from bzzz.config.setting import describe as describe
