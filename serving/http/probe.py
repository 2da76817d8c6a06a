"""Whether the server on this machine is well, as an exit code: `python -m serving.http.probe [URL]`, for health checks.

0 where it answers that it is, or asks for a login, 1 otherwise. A key comes from OGA_CHAT_API_KEYS, as the server's do.
Imports nothing of ours, so that it can be run by any path, and every few seconds.
"""

import os
import sys
import urllib.error
import urllib.request

URL = "http://127.0.0.1:7860/health"
_SECONDS = 4.0


def main(argv: list[str]) -> int:
    """The exit code."""
    request = urllib.request.Request(argv[0] if argv else URL)
    if keys := os.environ.get("OGA_CHAT_API_KEYS", "").split():
        request.add_header("Authorization", f"Bearer {keys[0]}")
    try:
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        return 0 if error.code == 401 else 1
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
