"""The built-in CA and the bundles that set devices up. Pure functions: no file, no clock."""
