/** Says what happens to those who do not see it, and shows what must not be missed. */

import { useEffect, useRef } from 'preact/hooks';
import { awaitsApproval, type ToolItem } from '../client/items';
import type { Pending, State, View } from '../client/state';
import { plainText } from '../markdown/plain';
import { endText } from './conversation';
import { Icon } from './Icon';
import { agentName } from './names';
import { alarm, announce, announcement, sound, warning } from './notices';
import { useStore } from './store';

/** As much of an answer is read out. */
const SPOKEN_CHARS = 500;
/** A warning goes by itself after so long. */
const WARNING_MS = 12_000;

export function Announcer() {
  const { state } = useStore();
  const before = useRef(state.peek());

  useEffect(
    () =>
      state.subscribe((now) => {
        const news = newsBetween(before.current, now);
        before.current = now;
        if (news?.isUrgent) sound(news.text);
        else if (news) announce(news.text);
      }),
    [],
  );

  useEffect(() => {
    const timer = setTimeout(() => (warning.value = ''), WARNING_MS);
    return () => clearTimeout(timer);
  }, [warning.value]);

  return (
    <>
      <div class="visually-hidden" role="status">
        {announcement.value}
      </div>
      <div class="visually-hidden" role="alert">
        {alarm.value}
      </div>
      {warning.value && (
        <div class="warning">
          <Icon name="alert" />
          <span>{warning.value}</span>
          <button
            type="button"
            class="icon-button"
            aria-label="Dismiss"
            onClick={() => (warning.value = '')}
          >
            <Icon name="close" />
          </button>
        </div>
      )}
    </>
  );
}

interface News {
  text: string;
  isUrgent: boolean;
}

/** What has happened in the chat that is looked at, if it is worth a word. */
export function newsBetween(before: State, now: State): News | undefined {
  const { open } = now;
  const view = open === undefined ? undefined : now.views.get(open);
  const old = open === undefined ? undefined : before.views.get(open);
  if (!view || !old || before.open !== open) return undefined;
  if (view.problem && !old.problem) {
    return { text: `This chat cannot go on: ${view.problem.message}`, isUrgent: true };
  }
  // What was there when the chat was opened, or came back, is history.
  if (!old.synced || !view.synced) return undefined;
  const refused = now.pending.find((message) => isNewlyRefused(before, message));
  if (refused) return { text: `Not sent: ${refused.error?.message ?? ''}`, isUrgent: true };
  const asked = askedBetween(old, view);
  if (asked !== undefined) {
    const text = `${nameIn(now, view)} needs your approval to call ${asked}`;
    return { text, isUrgent: false };
  }
  const ended = endedBetween(old, view);
  const end = ended === undefined ? undefined : endOf(view, ended);
  if (end || !view.run || view.run.id === old.run?.id) return end;
  return { text: `${nameIn(now, view)} is answering`, isUrgent: false };
}

function nameIn(state: State, { agentId, sessionId }: View): string {
  return agentName(state, agentId, sessionId);
}

/** The tools that somebody has come to be asked about. */
function askedBetween(old: View, view: View): string | undefined {
  if (view.items === old.items) return undefined;
  const known = new Set(waiting(old).map(({ key }) => key));
  const asked = waiting(view).flatMap(({ key, name }) => (known.has(key) ? [] : name));
  return asked.length > 0 ? asked.join(', ') : undefined;
}

function waiting({ items, run }: View): ToolItem[] {
  return items.filter((item) => awaitsApproval(item, run?.id));
}

/** The run that has ended; it may be so short that it has begun since, too. */
function endedBetween(old: View, view: View): string | undefined {
  if (old.run) return view.run?.id === old.run.id ? undefined : old.run.id;
  if (view.run || view.items === old.items) return undefined;
  const last = view.items.at(-1);
  return old.items.some(({ key }) => key === last?.key) ? undefined : last?.runId;
}

function isNewlyRefused(before: State, { id, state, sessionId }: Pending): boolean {
  const wasRefused = before.pending.some((other) => other.id === id && other.state === 'refused');
  return state === 'refused' && sessionId === before.open && !wasRefused;
}

function endOf(view: View, runId: string): News | undefined {
  const last = view.items.findLast((item) => item.runId === runId);
  switch (last?.kind) {
    case 'end':
      return { text: endText(last), isUrgent: false };
    case 'error':
      return { text: `Failed: ${last.error.message}`, isUrgent: true };
    case 'agent':
      return { text: spoken(plainText(last.content)), isUrgent: false };
    default:
      return undefined;
  }
}

function spoken(text: string): string {
  return text.length <= SPOKEN_CHARS ? text : `${text.slice(0, SPOKEN_CHARS)} … more in the chat`;
}
