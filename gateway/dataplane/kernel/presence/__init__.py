"""Inside presence in the Linux kernel: NAPT, translations and redirects by conntrack."""
