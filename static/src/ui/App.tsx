/** The page: sidebar, and beside it what the address names. */

import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { isDeletion } from '../client/commands';
import { Agents } from './Agents';
import { Announcer } from './Announcer';
import { Chat } from './Chat';
import { ConnectionDialog } from './ConnectionDialog';
import { Dialog } from './Dialog';
import { lazily } from './lazily';
import { isWide } from './media';
import { sessionTitle } from './names';
import { showSidebar, sidebarShown } from './preferences';
import { AGENTS, goTo, route, type Route } from './route';
import { listenForShortcuts } from './shortcuts';
import { focusSearch, Sidebar, SidebarButton } from './Sidebar';
import { isBusy } from './busy';
import { useSelect, useStore } from './store';

const DeletionToast = lazily(async () => (await import('./panels')).DeletionToast);
const UnknownPage = lazily(async () => (await import('./panels')).UnknownPage);
const TasksPage = lazily(async () => (await import('./tasks/tasks')).TasksPage);
const ShortcutsDialog = lazily(async () => (await import('./panels')).ShortcutsDialog);

export function App() {
  const { client, state } = useStore();
  const drawerOpen = useSignal(false);
  const helpOpen = useSignal(false);
  const shown = route.value;

  const actions = useMemo(() => {
    const openSidebar = () => {
      if (isWide.value) showSidebar(true);
      else drawerOpen.value = true;
    };
    return {
      openSidebar,
      search() {
        openSidebar();
        // After the sidebar has been drawn.
        requestAnimationFrame(focusSearch);
      },
      newChat: () => goTo(AGENTS),
      help: () => (helpOpen.value = true),
      stop() {
        const sessionId = state.peek().open;
        const field = document.querySelector<HTMLTextAreaElement>('.composer textarea');
        const wanted = field && (field === document.activeElement || field.value === '');
        if (sessionId === undefined || !wanted || !isBusy(state.peek(), sessionId)) return false;
        client.stop(sessionId, false);
        return true;
      },
    };
  }, []);

  useEffect(() => listenForShortcuts(actions), []);
  const main = useRef<HTMLElement>(null);
  const first = useRef(shown);
  useEffect(() => {
    if (shown === first.current) return;
    drawerOpen.value = false;
    // What had the focus has gone with the page before.
    requestAnimationFrame(() => document.activeElement === document.body && main.current?.focus());
  }, [shown]);

  const title = useSelect((now) => {
    if (shown.page === 'session') return sessionTitle(now, shown.sessionId);
    return shown.page === 'tasks' ? 'Tasks' : undefined;
  }, shown);
  useEffect(() => {
    document.title = title === undefined ? 'Duologue' : `${title} – Duologue`;
  }, [title]);

  const beside = isWide.value && sidebarShown.value;
  return (
    <div class={beside ? 'app with-sidebar' : 'app'}>
      {beside && <Sidebar onHelp={actions.help} onClose={() => showSidebar(false)} />}
      {!isWide.value && drawerOpen.value && (
        <Dialog className="drawer" label="Chats" onClose={() => (drawerOpen.value = false)}>
          {(close) => (
            <>
              <Sidebar onHelp={actions.help} onClose={close} />
              <Deletions />
            </>
          )}
        </Dialog>
      )}
      <main ref={main} class="main" tabIndex={-1}>
        {shown.page === 'session' ? (
          <Chat
            key={shown.sessionId}
            shown={shown}
            onOpenSidebar={beside ? undefined : actions.openSidebar}
          />
        ) : (
          <>
            <header class="bar">
              {!beside && <SidebarButton onClick={actions.openSidebar} />}
            </header>
            <Page page={shown.page} />
          </>
        )}
      </main>
      <ConnectionDialog />
      <Announcer />
      {/* A modal drawer lets nobody at what is outside of it. */}
      {(isWide.value || !drawerOpen.value) && <Deletions />}
      {helpOpen.value && <ShortcutsDialog onClose={() => (helpOpen.value = false)} />}
    </div>
  );
}

function Page({ page }: { page: Exclude<Route['page'], 'session'> }) {
  if (page === 'agents') return <Agents />;
  return page === 'tasks' ? <TasksPage /> : <UnknownPage />;
}

function Deletions() {
  const isAny = useSelect((state) => state.pending.some(isDeletion));
  return isAny ? <DeletionToast /> : null;
}
