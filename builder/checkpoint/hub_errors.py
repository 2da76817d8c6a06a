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


def why_not_given(name: str, error: BaseException) -> str:
    """Why a folder could not be sent to a repository, and what to do."""
    from httpx2 import RequestError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # how the client tells of a transfer
        error = error.__cause__
    again = "publish again, which sends only what is missing"
    if isinstance(error, OfflineModeIsEnabled):
        return "nothing can be sent while HF_HUB_OFFLINE is set: unset it."
    if isinstance(error, RequestError):
        return f"the Hub cannot be reached, or was lost ({_first_line(error)}): check the connection and {again}."
    if isinstance(error, HfHubHTTPError):
        status, owner = error.response.status_code, name.partition("/")[0]
        said = error.server_message or _first_line(error)
        if status == 401:
            return "the Hub refuses your access token: log in again with 'hf auth login', or correct or unset HF_TOKEN."
        if status == 403:
            return (
                f"you may not write to {name} ({said}): use your own name or an organization's in place of {owner}, "
                "and a token that may write there."
            )
        if status == 409:
            return f"{name} is taken ({said}): choose another name with --to."
        if status == 412:
            return f"{name} has changed since it was looked at: publish again, and look at what would change."
        if status in (402, 413):
            return f"the Hub does not take that much ({said}): free some of the storage of {owner}."
    return f"{name} could not be published ({_first_line(error)}): {again}."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
