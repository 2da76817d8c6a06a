"""What errors of the Hub's client mean, and what to do, in a sentence."""


def why_unknown(name: str, revision: str | None, error: Exception) -> str:
    """Why the Hub did not tell what the repository holds, and what to do."""
    from httpx2 import RequestError
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return f"{name} is not complete in the local cache, and HF_HUB_OFFLINE is set: unset it."
    if isinstance(error, RequestError):
        return (
            f"{name} is not complete in the local cache, and the Hub cannot be reached ({_first_line(error)}): check "
            "the connection."
        )
    return why_broken(name, revision, error)


def why_broken(name: str, revision: str | None, error: Exception) -> str:
    """What a failed request means, and what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return f"{name} is gated: ask for access on its Hub page, then log in with 'hf auth login' or set HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hub has no {name}, or it is private: check the spelling, or log in with 'hf auth login'."
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision!r}: use a branch, tag or commit of it."
    if (
        isinstance(error, HfHubHTTPError)
        and error.response.status_code == 401
        and "authorization" in error.response.request.headers
    ):
        return "the Hub refuses your access token: log in again with 'hf auth login', or correct or unset HF_TOKEN."
    return f"{name} could not be downloaded ({_first_line(error)}): try again, which goes on where it stopped."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
