"""The chat page. What Gradio reads when it is imported is set here, before anything of this room is."""

import os

# Private by itself.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# No folder can be made there: the page has no files.
os.environ["GRADIO_TEMP_DIR"] = os.path.join(os.devnull, "none")
# No statistics of its own, which it makes anew after every answer.
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"], os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1", str(1 << 62)
