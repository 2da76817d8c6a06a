"""The stages that make a model folder of a checkpoint, each heavy one a process of its own."""
