"""The chat page. What Gradio reads when it is imported is set here, before anything of this room is."""

import atexit
import os
import shutil
import tempfile

from serving.page.unwritten import leave_stubs_unwritten

# Private by itself.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# It makes a folder for files in any case: an empty one of its own, for as long as the program runs.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="oga-chat-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
# No statistics of its own, which it makes anew after every answer.
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"], os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1", str(1 << 62)
leave_stubs_unwritten()
