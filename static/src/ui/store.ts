/** What components draw from: the client's state as a signal, brought up to date once a frame. */

import { computed, signal, type ReadonlySignal } from '@preact/signals';
import { createContext } from 'preact';
import { useContext, useMemo } from 'preact/hooks';
import type { Client } from '../client/client';
import { emptyView, type State, type View } from '../client/state';

export interface Store {
  client: Client;
  state: ReadonlySignal<State>;
}

/**
 * However many events come, the page is drawn once for all of them. A hidden page gets no frames: there,
 * events are only folded.
 */
export function createStore(client: Client): Store {
  const state = signal(client.state);
  let scheduled = false;
  client.subscribe(() => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      state.value = client.state;
    });
  });
  return { client, state };
}

export const StoreContext = createContext<Store | undefined>(undefined);

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (!store) throw new Error('a component outside of StoreContext');
  return store;
}

/**
 * A part of the state: the component is drawn again only when that part is another one. What `select`
 * uses beside the state must be among `inputs`.
 */
export function useSelect<T>(select: (state: State) => T, ...inputs: readonly unknown[]): T {
  const { state } = useStore();
  return useMemo(() => computed(() => select(state.value)), inputs).value;
}

/** A part of one session. */
export function useView<T>(sessionId: string, select: (view: View) => T): T {
  return useSelect(({ views }) => select(views.get(sessionId) ?? emptyView(sessionId)), sessionId);
}
