/** Components in a document, with a client and the server's ends of its sockets. */

import { signal } from '@preact/signals';
import { render, type ComponentChildren } from 'preact';
import { act } from 'preact/test-utils';
import { afterEach, beforeEach, vi } from 'vitest';
import { StoreContext } from '../../src/ui/store';
import { FakePage } from './helpers';

export let root: HTMLElement;
export let page: FakePage;

/** Every test of a file has a page of its own. */
export function onScreen(): void {
  beforeEach(() => {
    vi.useFakeTimers({ now: 0 });
    root = document.body.appendChild(document.createElement('div'));
    page = new FakePage();
  });

  afterEach(() => {
    act(() => render(null, root));
    root.remove();
    vi.useRealTimers();
  });
}

export function show(children: ComponentChildren): void {
  const state = signal(page.client.state);
  page.client.subscribe(() => (state.value = page.client.state));
  const store = { client: page.client, state };
  act(() => render(<StoreContext.Provider value={store}>{children}</StoreContext.Provider>, root));
}

/** Time for the page and for the connection. */
export function pass(ms: number): void {
  act(() => {
    vi.advanceTimersByTime(ms);
    page.clock.pass(ms);
  });
}

export function find<T extends HTMLElement>(selector: string): T {
  const element = root.querySelector<T>(selector);
  if (!element) throw new Error(`no ${selector} in ${root.innerHTML}`);
  return element;
}

export function button(text: string): HTMLButtonElement {
  const found = [...root.querySelectorAll('button')].find(
    (element) => element.textContent?.trim() === text,
  );
  if (!found) throw new Error(`no button ${text} in ${root.innerHTML}`);
  return found;
}

export function press(
  element: HTMLElement,
  key: string,
  more: KeyboardEventInit & { keyCode?: number } = {},
) {
  const { keyCode, ...init } = more;
  const pressed = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...init });
  if (keyCode !== undefined) Object.defineProperty(pressed, 'keyCode', { value: keyCode });
  act(() => {
    element.dispatchEvent(pressed);
  });
  return pressed;
}

/** What was promised is kept, and what that promised too. */
export function answered(turns = 5): Promise<void> {
  return turns === 0 ? Promise.resolve() : Promise.resolve().then(() => answered(turns - 1));
}
