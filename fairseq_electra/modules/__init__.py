"""Plain nn.Modules and functions; nothing here registers with fairseq or knows its tasks."""
