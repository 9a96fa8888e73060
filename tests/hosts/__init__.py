"""Several hosts on one machine, made from network namespaces."""
