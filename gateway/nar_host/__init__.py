"""The NAR client on a Linux host: `gateway nar lease`, `run`, and the library behind them."""
