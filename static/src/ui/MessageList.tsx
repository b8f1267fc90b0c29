/** The messages of a chat, as many as can be shown at once, and the way to the others. */

import type { Signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { messagesOf } from '../client/commands';
import { isPreamble } from '../client/items';
import { conversationOf, type Entry } from './conversation';
import { Icon } from './Icon';
import { Message } from './Message';
import { agentName } from './names';
import { EndFollower } from './scroll';
import { useSelect, useStore, useView } from './store';

/** Messages in the page at once; more make it slow. */
const MAX_MOUNTED = 1_000;
/** How many are kept of a long chat, once its reader is back at the end. */
const KEPT = 400;
/** By how many the part that is shown moves. */
const STEP = 200;

interface Props {
  sessionId: string;
  sent: Signal<number>;
  onEdit(text: string): void;
}

export function MessageList({ sessionId, sent, onEdit }: Props) {
  const { client } = useStore();
  const entries = useConversation(sessionId);
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const viewport = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const [follower, setFollower] = useState<EndFollower>();
  /** Of the newest entries, how many are not mounted: a reader of old ones is far from them. */
  const [skipped, setSkipped] = useState(0);
  const end = entries.length - skipped;
  const start = Math.max(0, end - MAX_MOUNTED);

  useLayoutEffect(() => {
    if (!viewport.current || !list.current) return undefined;
    const made = new EndFollower(viewport.current, list.current);
    setFollower(made);
    return () => made.destroy();
  }, []);

  useKeptPlace(viewport.current, list.current, follower, [entries, skipped]);

  const isFollowing = follower?.following.value ?? true;
  useEffect(() => {
    if (!isFollowing) return;
    setSkipped(0);
    if (entries.length > MAX_MOUNTED) client.trim(sessionId, KEPT);
  }, [isFollowing, entries.length]);

  const toEnd = () => {
    client.trim(sessionId, KEPT);
    follower?.toEnd();
  };
  useEffect(() => {
    if (sent.value > 0) toEnd();
  }, [sent.value]);

  return (
    <div class="chat-body">
      <div
        ref={viewport}
        class="viewport"
        role="log"
        aria-live="off"
        aria-label="Messages"
        // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so keys must reach it
        tabIndex={0}
      >
        <div ref={list} class="messages">
          {start === 0 ? (
            <Older sessionId={sessionId} />
          ) : (
            <Edge key="start" onReached={() => setSkipped(skipped + Math.min(STEP, start))} />
          )}
          {entries.slice(start, end).map((entry) => (
            <Message
              key={entry.key}
              entry={entry}
              sessionId={sessionId}
              agentName={name}
              onEdit={onEdit}
            />
          ))}
          {skipped > 0 && (
            <Edge key="end" onReached={() => setSkipped(Math.max(0, skipped - STEP))} />
          )}
        </div>
        {!isFollowing && (
          <div class="latest-place">
            <button type="button" class="button latest" onClick={toEnd}>
              <Icon name="arrow" />
              Latest
            </button>
          </div>
        )}
      </div>
    </div>
  );
}

/** The session's entries; text that streams changes none of them. */
function useConversation(sessionId: string): Entry[] {
  const items = useView(sessionId, (view) => view.items);
  const isWhole = useView(sessionId, (view) => view.older === 'none');
  const queue = useView(sessionId, (view) => view.queue);
  const runId = useView(sessionId, (view) => view.run?.id);
  const streams = useView(sessionId, (view) => [...view.streaming.keys()].join());
  const pending = useSelect((state) => state.pending);
  const { client } = useStore();
  return useMemo(() => {
    const streaming = client.state.views.get(sessionId)?.streaming ?? new Map();
    const own = messagesOf(pending, sessionId);
    // As long as there is a gap between them and the rest, the first words are not shown.
    const shown = isWhole ? items : items.filter((item) => !isPreamble(item));
    return conversationOf({ items: shown, queue, runId, streaming }, own);
  }, [items, isWhole, queue, runId, streams, pending]);
}

/** Keeps what is read where it is, when something comes or goes above it. */
function useKeptPlace(
  viewport: HTMLElement | null,
  list: HTMLElement | null,
  follower: EndFollower | undefined,
  changes: readonly unknown[],
): void {
  const isKept = viewport && list && !follower?.following.peek();
  const anchor = isKept ? firstVisible(viewport, list) : undefined;
  const top = anchor?.getBoundingClientRect().top;
  useLayoutEffect(() => {
    if (anchor?.isConnected && top !== undefined) follower?.keep(anchor, top);
  }, changes);
}

function firstVisible(viewport: HTMLElement, list: HTMLElement): Element | undefined {
  const { top } = viewport.getBoundingClientRect();
  const messages = [...list.querySelectorAll(':scope > .message')];
  return messages.find((message) => message.getBoundingClientRect().bottom > top);
}

/** The beginning of what is here: older messages are fetched when it comes near. */
function Older({ sessionId }: { sessionId: string }) {
  const { client } = useStore();
  const older = useView(sessionId, (view) => view.older);
  const ready = useSelect((state) => state.connection.phase === 'ready');
  if (older === 'none') return null;
  if (older === 'failed') {
    return (
      <p class="older">
        Older messages could not be loaded.{' '}
        <button type="button" class="link" onClick={() => void client.queries.loadOlder(sessionId)}>
          Try again
        </button>
      </p>
    );
  }
  return (
    <>
      <p class="older">{older === 'loading' ? 'Loading older messages…' : ' '}</p>
      {older === 'more' && ready && (
        <Edge onReached={() => void client.queries.loadOlder(sessionId)} />
      )}
    </>
  );
}

/** So near to an edge, what lies beyond it is fetched. */
const NEAR = '600px';

/** Looks anew whenever it is drawn: what has come may not have filled the space. */
function Edge({ onReached }: { onReached(): void }) {
  const mark = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!mark.current) return undefined;
    const observer = new IntersectionObserver(
      (seen) => seen.some(({ isIntersecting }) => isIntersecting) && onReached(),
      { root: mark.current.closest('.viewport'), rootMargin: NEAR },
    );
    observer.observe(mark.current);
    return () => observer.disconnect();
  });
  return <div ref={mark} class="edge" aria-hidden="true" />;
}
