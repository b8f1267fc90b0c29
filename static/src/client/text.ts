/** Texts that the client makes, and their limits. */

import type { Limits } from './wire.gen';
import { utf8Length, type ClientFrame } from './wire';

const TITLE_CHARS = 60;

/** A session's title from its first message: the first line, cut between words. */
export function titleFrom(content: string): string {
  const line = content.trim().split('\n', 1)[0]?.trim() ?? '';
  const points = [...line];
  if (points.length <= TITLE_CHARS) return line;
  // One for the ellipsis, and one more to see whether a word ends there.
  const cut = points.slice(0, TITLE_CHARS).join('');
  const space = cut.lastIndexOf(' ');
  // A long first word, or a script without spaces, is cut where it is.
  const kept =
    space > TITLE_CHARS / 2 ? cut.slice(0, space) : points.slice(0, TITLE_CHARS - 1).join('');
  return `${kept.trimEnd()}…`;
}

/** What the server takes of a title. */
const MAX_TITLE_CHARS = 200;

/** The title of a session that begins with another's past. */
export function forkTitle(title: string): string {
  const points = [...`Fork of ${title}`];
  if (points.length <= MAX_TITLE_CHARS) return points.join('');
  return `${points.slice(0, MAX_TITLE_CHARS - 1).join('')}…`;
}

/** Why the server would not take a message, if it would not. */
export function messageProblem(
  frame: ClientFrame,
  content: string,
  limits: Limits | undefined,
): string | undefined {
  if (!limits) return undefined;
  const frameBytes = utf8Length(JSON.stringify(frame));
  const contentBytes = utf8Length(content);
  const [bytes, most] =
    contentBytes > limits.max_content_bytes
      ? [contentBytes, limits.max_content_bytes]
      : [frameBytes, limits.max_frame_bytes];
  if (bytes <= most) return undefined;
  return `This message takes ${kib(bytes)}; the server accepts ${kib(most)} at most. Shorten or split it.`;
}

function kib(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}
