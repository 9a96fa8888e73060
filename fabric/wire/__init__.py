"""Between stream fields and the core's structs: decoding, spellings, log records, JSON Schema."""
