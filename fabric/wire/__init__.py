"""Converts between stream fields and the core's structs; checks what emitters and others wrote."""
