/** Brings the message into view that the address names. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Entry } from './conversation';
import type { SessionRoute } from './route';
import type { EndFollower } from './scroll';
import { useSelect, useStore } from './store';

/** For how long a message that was found is marked as that. */
const MARKED_MS = 2_500;

interface Place {
  shown: SessionRoute;
  entries: readonly Entry[];
  /** The part of the entries that is mounted. */
  start: number;
  end: number;
  list: HTMLElement | null;
  follower: EndFollower | undefined;
  mount(index: number): void;
}

export interface Jump {
  /** Number of the message that was jumped to a moment ago. */
  found: number | undefined;
  phase: 'loading' | 'failed' | undefined;
  tryAgain(): void;
}

export function useJump({ shown, entries, start, end, list, follower, mount }: Place): Jump {
  const { client } = useStore();
  const ready = useSelect((state) => state.connection.phase === 'ready');
  const [phase, setPhase] = useState<Jump['phase']>();
  const [found, setFound] = useState<number>();
  /** Of which address the message has been in view. */
  const reached = useRef<SessionRoute | undefined>(undefined);
  const { sessionId, at } = shown;
  const index = at === undefined ? -1 : entries.findIndex((entry) => seqOf(entry) === at);
  const isHere = index >= 0;

  const load = async (seq: number) => {
    setPhase('loading');
    const problem = await client.queries.loadAround(sessionId, seq);
    setPhase(problem && 'failed');
  };
  useEffect(() => {
    if (at === undefined) setPhase(undefined);
    else if (ready && !isHere && reached.current !== shown) void load(at);
  }, [shown, ready, isHere]);

  useLayoutEffect(() => {
    if (!follower || !isHere || reached.current === shown) return;
    follower.leave();
    if (index < start || index >= end) return mount(index);
    const message = list?.querySelector<HTMLElement>(`[data-seq="${at}"]`);
    if (!message) return;
    reached.current = shown;
    setFound(at);
    follower.show(message);
    // From here, keys and readers go on.
    message.tabIndex = -1;
    message.focus({ preventScroll: true });
  });

  useEffect(() => {
    if (found === undefined) return undefined;
    const timer = setTimeout(() => setFound(undefined), MARKED_MS);
    return () => clearTimeout(timer);
  }, [found]);

  return { found, phase, tryAgain: () => at !== undefined && void load(at) };
}

export function seqOf(entry: Entry): number | undefined {
  return entry.kind === 'item' ? entry.item.seq : undefined;
}
