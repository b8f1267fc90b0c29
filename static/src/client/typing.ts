/** Who is writing in which session: of others it is heard, of this client it is told. */

import type { Clock } from './socket';
import type { EventEnvelope } from './wire.gen';

type TypingEvent = Extract<EventEnvelope, { type: 'typing' }>;

/** It is told this often at most; the server takes it for over after twice as long. */
const TELL_MS = 3_000;

export interface TypingHost {
  clock: Clock;
  tell(sessionId: string, typing: boolean): void;
  /** Somebody has not gone on. */
  over(sessionId: string, who: string): void;
}

export class Typing {
  /** Ends the wait for somebody to go on. */
  readonly #waits = new Map<string, () => void>();
  /** What was told last of a session, and when that somebody writes there. */
  readonly #told = new Map<string, { typing: boolean; at: number }>();

  constructor(private readonly host: TypingHost) {}

  /** Something is being written, or nothing any more. */
  tell(sessionId: string, typing: boolean): void {
    const now = this.host.clock.now();
    const told = this.#told.get(sessionId);
    const isNews = typing ? now - (told?.at ?? -TELL_MS) >= TELL_MS : told?.typing === true;
    if (!isNews) return;
    this.#told.set(sessionId, { typing, at: typing ? now : (told?.at ?? now) });
    this.host.tell(sessionId, typing);
  }

  heard({ session_id: sessionId = '', data }: TypingEvent): void {
    const { client_id: clientId, author, typing, expires_in_ms: ms } = data;
    const who = clientId ?? author;
    const key = `${sessionId} ${who}`;
    this.#waits.get(key)?.();
    this.#waits.delete(key);
    if (!typing) return;
    const over = () => {
      this.#waits.delete(key);
      this.host.over(sessionId, who);
    };
    this.#waits.set(key, this.host.clock.after(ms, over));
  }
}
