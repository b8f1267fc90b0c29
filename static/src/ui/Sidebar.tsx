/** The list of chats, with search, by days. */

import { useEffect, useRef } from 'preact/hooks';
import { listedSessions } from '../client/sessions';
import type { Session } from '../client/wire.gen';
import { Icon, Mark, type IconName } from './Icon';
import { lazily } from './lazily';
import { isWide } from './media';
import { setTheme, theme, type Theme } from './preferences';
import { AGENTS, route, TASKS } from './route';
import { SessionRow } from './SessionRow';
import { useSelect, useStore } from './store';
import { dayName } from './time';

const MessageHits = lazily(async () => (await import('./panels')).MessageHits);

const SEARCH_ID = 'search';
/** How long typing must pause before it is searched for. */
const SEARCH_MS = 200;

export function focusSearch(): void {
  document.getElementById(SEARCH_ID)?.focus();
}

interface Props {
  onHelp(): void;
  onClose(): void;
}

export function Sidebar({ onHelp, onClose }: Props) {
  return (
    // Arrows go through the list as Tab does, but pass the buttons over.
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <nav class="sidebar" aria-label="Chats" onKeyDown={moveInList}>
      <div class="sidebar-head">
        <a class="brand" href={AGENTS}>
          <Mark />
          Duologue
        </a>
        <button type="button" class="icon-button" aria-label="Hide chats" onClick={onClose}>
          <Icon name={isWide.value ? 'panel' : 'close'} />
        </button>
      </div>
      <a class="button primary new-chat" href={AGENTS}>
        <Icon name="plus" />
        New chat
      </a>
      <a
        class="sidebar-link"
        href={TASKS}
        aria-current={route.value.page === 'tasks' ? 'page' : undefined}
      >
        <Icon name="tasks" />
        Tasks
      </a>
      <Search />
      <SessionList />
      <div class="sidebar-foot">
        <ThemeButton />
        <button type="button" class="icon-button" aria-label="Keyboard shortcuts" onClick={onHelp}>
          <Icon name="keyboard" />
        </button>
      </div>
    </nav>
  );
}

/** Brings the sidebar back. */
export function SidebarButton({ onClick }: { onClick(): void }) {
  return (
    <button type="button" class="icon-button" aria-label="Show chats" onClick={onClick}>
      <Icon name="menu" />
    </button>
  );
}

function Search() {
  const { client, state } = useStore();
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <div class="search">
      <Icon name="search" />
      <input
        id={SEARCH_ID}
        type="search"
        aria-label="Search chats and messages"
        placeholder="Search"
        autocomplete="off"
        defaultValue={state.peek().list.query}
        onInput={({ currentTarget }) => {
          clearTimeout(timer.current);
          const query = currentTarget.value.trim();
          timer.current = setTimeout(() => {
            void client.queries.listSessions(query);
            void client.queries.search(query);
          }, SEARCH_MS);
        }}
      />
    </div>
  );
}

function SessionList() {
  const { client } = useStore();
  const list = useSelect((state) => state.list);
  const known = useSelect((state) => state.sessions);
  const pending = useSelect((state) => state.pending);
  const searching = useSelect((state) => state.search.phase !== 'none');
  const sessions = listedSessions({ list, sessions: known, pending });
  return (
    <div class="session-list">
      {byDay(sessions).map(([day, ofDay]) => (
        <section key={day} aria-label={day}>
          <h2>{day}</h2>
          <ul>
            {ofDay.map((session) => (
              <SessionRow
                key={session.session_id}
                session={session}
                isOpen={isOpen(session.session_id)}
              />
            ))}
          </ul>
        </section>
      ))}
      {sessions.length === 0 && <EmptyList />}
      {list.cursor !== undefined && (
        <button
          type="button"
          class="button more"
          disabled={list.phase === 'loading'}
          onClick={() => void client.queries.listMoreSessions()}
        >
          More
        </button>
      )}
      {searching && <MessageHits />}
    </div>
  );
}

function moveInList(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const { currentTarget: sidebar, target } = event;
  if (step === undefined || !(sidebar instanceof Element)) return;
  const stops = [...sidebar.querySelectorAll<HTMLElement>(`#${SEARCH_ID}, .session-list a`)];
  const from = stops.findIndex((stop) => stop === target);
  const to = from < 0 ? undefined : stops[from + step];
  if (!to) return;
  event.preventDefault();
  to.focus();
}

function EmptyList() {
  const { client } = useStore();
  const { phase, query } = useSelect((state) => state.list);
  if (phase === 'loading') return <p class="hint">Loading chats…</p>;
  if (phase === 'failed') {
    return (
      <p class="hint">
        The list could not be loaded.{' '}
        <button type="button" class="link" onClick={() => void client.queries.listSessions(query)}>
          Try again
        </button>
      </p>
    );
  }
  return <p class="hint">{query === '' ? 'No chats yet' : `No chat is called “${query}”`}</p>;
}

function isOpen(sessionId: string): boolean {
  return route.value.page === 'session' && route.value.sessionId === sessionId;
}

function byDay(sessions: Session[]): [string, Session[]][] {
  const now = new Date();
  const days = new Map<string, Session[]>();
  for (const session of sessions) {
    const day = dayName(new Date(session.updated_at), now);
    days.set(day, [...(days.get(day) ?? []), session]);
  }
  return [...days];
}

const THEMES: Record<Theme, { next: Theme; icon: IconName; name: string }> = {
  system: { next: 'light', icon: 'system', name: 'as the system' },
  light: { next: 'dark', icon: 'light', name: 'light' },
  dark: { next: 'system', icon: 'dark', name: 'dark' },
};

function ThemeButton() {
  const { next, icon, name } = THEMES[theme.value];
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={`Theme: ${name}. Change to ${THEMES[next].name}`}
      title={`Theme: ${name}`}
      onClick={() => setTheme(next)}
    >
      <Icon name={icon} />
    </button>
  );
}
