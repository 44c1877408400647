"""Files to Slack, in the three steps that it asks for.

https://docs.slack.dev/messaging/working-with-files#uploading_files
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import PurePath

from bot.chat import Place, TryLater
from bot.slack.finding import Finder
from bot.slack.web import Refusal, Web

log = logging.getLogger(__name__)


class Uploads:
    def __init__(self, web: Web, finder: Finder) -> None:
        self._web, self._finder = web, finder
        self._doubtful: set[tuple[str, str]] = set()
        """Place and name of files that may have arrived."""

    def send(self, place: Place, name: str, text: str, *, look: bool = False) -> str:
        """The file's id. `look`: it may be there. Raises Refusal, TryLater."""
        tagged = tag(name, text)
        doubt = (place.key, tagged)
        if (look or doubt in self._doubtful) and (found := self._finder.file(place, tagged)):
            self._doubtful.discard(doubt)
            return found
        self._doubtful.discard(doubt)
        data = (text or "\n").encode()
        asked = self._web.call("files.getUploadURLExternal", filename=tagged, length=len(data))
        file = str(asked.get("file_id") or "")
        self._web.put(str(asked.get("upload_url") or ""), data)
        try:
            self._web.call(
                "files.completeUploadExternal",
                unclear=True,
                files=[{"id": file, "title": name}],
                channel_id=place.channel,
                thread_ts=place.thread or None,
            )
        except TryLater as exc:
            if exc.unclear:
                self._doubtful.add(doubt)
            raise
        return file

    def rest(self, place: Place, file: tuple[str, str] | None, *, look: bool) -> None:
        """What is too long for a message that has been posted. That stands, whatever becomes of its rest."""
        if file is None:
            return
        try:
            self.send(place, *file, look=look)
        except Refusal as exc:
            log.warning("the rest of a message cannot be uploaded: %s", exc)
            self._web.call(
                "chat.postMessage",
                channel=place.channel,
                thread_ts=place.thread or None,
                text=f"The rest, {len(file[1]):,} characters, could not be uploaded. {exc}",
            )


def tag(name: str, text: str) -> str:
    """A name that tells this file from any other, so that it is found after an unclear answer."""
    path = PurePath(name)
    return f"{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}{path.suffix}"
