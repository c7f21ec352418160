"""One file per revision, named by its number; old ones never change."""
