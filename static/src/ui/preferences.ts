/** How a person likes the page: shared by all tabs of the browser. */

import { effect, signal } from '@preact/signals';
import { SafeStorage } from '../client/storage';

export type Theme = 'system' | 'light' | 'dark';

const THEME = 'duologue:theme';
const SIDEBAR = 'duologue:sidebar';

const storage = new SafeStorage(() => localStorage);

function storedTheme(): Theme {
  const theme = storage.read(THEME);
  return theme === 'light' || theme === 'dark' ? theme : 'system';
}

export const theme = signal(storedTheme());
/** Whether shared documents are shown beside their chats; this tab's alone. */
export const stateShown = signal(false);
export const sidebarShown = signal(storage.read(SIDEBAR) !== 'hidden');

effect(() => {
  document.documentElement.dataset['theme'] = theme.value;
});

// Another tab has changed it.
addEventListener('storage', ({ key }) => {
  if (key === THEME) theme.value = storedTheme();
});

export function setTheme(to: Theme): void {
  theme.value = to;
  storage.write(THEME, to);
}

export function showSidebar(shown: boolean): void {
  sidebarShown.value = shown;
  storage.write(SIDEBAR, shown ? 'shown' : 'hidden');
}
