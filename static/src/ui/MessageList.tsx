/** The messages of a chat, as many as can be shown at once, and the way to the others. */

import type { Signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { messagesOf } from '../client/commands';
import { isBusy } from './busy';
import { isPreamble } from '../client/items';
import { moreOf, type Side } from '../client/past';
import { conversationOf, withFork, type Entry } from './conversation';
import { Icon } from './Icon';
import { seqOf, useJump, type Jump } from './jump';
import { lazily } from './lazily';
import { Message } from './Message';
import { agentName } from './names';
import { leaveMessage, type SessionRoute } from './route';
import { EndFollower } from './scroll';
import { useSelect, useStore, useView } from './store';

const Suggestions = lazily(async () => (await import('./calls/calls')).Suggestions);

/** Messages in the page at once; more make it slow. */
const MAX_MOUNTED = 1_000;
/** How many are kept of a long chat, once its reader is back at the end. */
const KEPT = 400;
/** By how many the part that is shown moves. */
const STEP = 200;

/** How many messages after one that is jumped to are mounted with it. */
const AFTER_TARGET = 100;

interface Props {
  shown: SessionRoute;
  sent: Signal<number>;
  onEdit(text: string): void;
}

export function MessageList({ shown, sent, onEdit }: Props) {
  const { sessionId } = shown;
  const { client } = useStore();
  const entries = useConversation(sessionId);
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const runId = useView(sessionId, (view) => view.run?.id);
  const isAlive = useView(sessionId, (view) => !view.problem && view.closed?.reason !== 'deleted');
  const isPast = useView(sessionId, (view) => view.past !== undefined);
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
  const jump = useJump({
    shown,
    entries,
    start,
    end,
    list: list.current,
    follower,
    mount: (index) => setSkipped(Math.max(0, entries.length - index - AFTER_TARGET)),
  });
  useOrigin(sessionId);

  if (follower) follower.endsBefore = isPast;
  const isFollowing = follower?.following.value ?? true;
  const wasAway = useRef(false);
  useEffect(() => {
    // It may have been left since this was drawn.
    if (!follower?.following.peek()) {
      wasAway.current = follower !== undefined;
      return;
    }
    if (wasAway.current) leaveMessage();
    wasAway.current = false;
    setSkipped(0);
    if (isPast) client.leavePast(sessionId);
    if (entries.length > MAX_MOUNTED) client.trim(sessionId, KEPT);
  }, [isFollowing, entries.length]);

  const toEnd = () => {
    client.leavePast(sessionId);
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
            <More key="older" sessionId={sessionId} side="older" />
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
              canFork={isAlive && isSettled(entry, runId)}
              isFound={jump.found !== undefined && seqOf(entry) === jump.found}
            />
          ))}
          {skipped > 0 ? (
            <Edge key="end" onReached={() => setSkipped(Math.max(0, skipped - STEP))} />
          ) : (
            <More key="newer" sessionId={sessionId} side="newer" />
          )}
          <Suggested sessionId={sessionId} sent={sent} />
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
      {jump.phase && <JumpNote jump={jump} />}
    </div>
  );
}

/** What may be said next, once the agent has said what it had to say. */
function Suggested({ sessionId, sent }: Pick<Props, 'sent'> & { sessionId: string }) {
  const { client } = useStore();
  const items = useView(sessionId, (view) => view.suggestions);
  const isOver = useView(sessionId, ({ past, closed, problem }) => !!(past ?? closed ?? problem));
  const busy = useSelect((state) => isBusy(state, sessionId), sessionId);
  if (items.length === 0 || isOver || busy) return null;
  const say = (text: string) => {
    if (client.sendMessage(sessionId, text) === undefined) sent.value++;
  };
  return <Suggestions items={items} onChosen={say} />;
}

/** How it goes with the message that the address names, as long as it is not in view. */
function JumpNote({ jump }: { jump: Jump }) {
  return (
    <p class="jump-note" role="status">
      {jump.phase === 'loading' ? (
        'Looking for the message…'
      ) : (
        <>
          The message could not be found.{' '}
          <button type="button" class="link" onClick={jump.tryAgain}>
            Try again
          </button>
        </>
      )}
    </p>
  );
}

/** Whether all that the entry's run has brought is known. */
function isSettled(entry: Entry, currentRun: string | undefined): boolean {
  return entry.kind === 'item' && !entry.waits && entry.item.runId !== currentRun;
}

/** Asks what the session began with, unless that is known: no snapshot tells whether it is a fork. */
function useOrigin(sessionId: string): void {
  const { client } = useStore();
  const isUnknown = useView(sessionId, (view) => view.forkedFrom === undefined && !view.problem);
  const ready = useSelect((state) => state.connection.phase === 'ready');
  useEffect(() => {
    if (isUnknown && ready) void client.queries.loadBeginning(sessionId);
  }, [isUnknown, ready]);
}

/** The session's entries; text that streams changes none of them. */
function useConversation(sessionId: string): readonly Entry[] {
  const items = useView(sessionId, (view) => view.items);
  const isWhole = useView(sessionId, (view) => view.older === 'none');
  const queue = useView(sessionId, (view) => view.queue);
  const runId = useView(sessionId, (view) => view.run?.id);
  const streams = useView(sessionId, (view) => [...view.streaming.keys()].join());
  const past = useView(sessionId, (view) => view.past?.items);
  const forkedFrom = useView(sessionId, (view) => view.forkedFrom);
  const pending = useSelect((state) => state.pending);
  const { client } = useStore();
  const entries = useMemo(() => {
    // Nothing of what goes on now is there.
    if (past)
      return conversationOf({ items: past, queue: [], runId: undefined, streaming: new Map() }, []);
    const streaming = client.state.views.get(sessionId)?.streaming ?? new Map();
    const own = messagesOf(pending, sessionId);
    // As long as there is a gap between them and the rest, the first words are not shown.
    const shown = isWhole ? items : items.filter((item) => !isPreamble(item));
    return conversationOf({ items: shown, queue, runId, streaming }, own);
  }, [items, past, isWhole, queue, runId, streams, pending]);
  return useMemo(
    () => withFork(entries, forkedFrom, past !== undefined),
    [entries, forkedFrom, past],
  );
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

/** An end of what is here: the messages beyond it are fetched when it comes near. */
function More({ sessionId, side }: { sessionId: string; side: Side }) {
  const { client } = useStore();
  const more = useView(sessionId, (view) => moreOf(view, side));
  const ready = useSelect((state) => state.connection.phase === 'ready');
  const load = () => void client.queries.loadMore(sessionId, side);
  const name = side === 'older' ? 'Older' : 'Newer';
  if (more === 'none') return null;
  return (
    <>
      <p class="older">
        {more === 'loading' && `Loading ${side} messages…`}
        {more === 'failed' && (
          <>
            {name} messages could not be loaded.{' '}
            <button type="button" class="link" onClick={load}>
              Try again
            </button>
          </>
        )}
      </p>
      {more === 'more' && ready && <Edge onReached={load} />}
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
