"""How models write tool calls: the formats, a reader for each syntax, and the grammar that holds a model to one."""
