/** Puts the client and the page together: the only place that names the browser's own things. */

import { effect } from '@preact/signals';
import { render } from 'preact';
import { Client } from './client/client';
import { DraftStorage, TabStorage } from './client/storage';
import { App } from './ui/App';
import { route } from './ui/route';
import { createStore, StoreContext } from './ui/store';
import './styles/tokens.css';
import './styles/base.css';
import './styles/layout.css';
import './styles/chat.css';
import './styles/calls.css';
import './styles/state.css';
import './styles/tasks.css';
import './styles/code.css';

const clock = {
  now: () => Date.now(),
  after(ms: number, call: () => void) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

const client = new Client({
  open(path, clientId) {
    // Relative to the page, which may be served below a path.
    const url = new URL(`.${path}`, location.href.replace(/#.*$/, ''));
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('client_id', clientId);
    return new WebSocket(url);
  },
  clock,
  random: Math.random,
  // `randomUUID` is missing on plain http outside localhost.
  randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  tab: new TabStorage(() => sessionStorage),
  drafts: new DraftStorage(() => localStorage, clock.now),
});

const store = createStore(client);

client.start();
effect(() => {
  const shown = route.value;
  client.open(shown.page === 'session' ? shown.sessionId : undefined);
});

addEventListener('online', () => client.wake());
// What is sent as the page is hidden may not get through any more; this comes a moment earlier.
addEventListener('beforeunload', () => client.commitDeletions());
// A page that lets go of its sockets may be kept whole, and be back at once.
addEventListener('pagehide', () => client.suspend());
addEventListener('pageshow', ({ persisted }) => persisted && client.resume());
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') client.wake();
  else client.keep();
});

// What tells of mishaps must be here before they happen: without the server, it cannot be had.
addEventListener('load', () => void import('./ui/panels').catch(() => {}));

const root = document.getElementById('app');
if (root) {
  render(
    <StoreContext.Provider value={store}>
      <App />
    </StoreContext.Provider>,
    root,
  );
}
