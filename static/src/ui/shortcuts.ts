/** Keys that work on the whole page. */

const FIELDS = 'input, textarea, select, [contenteditable]';

export interface ShortcutActions {
  search(): void;
  newChat(): void;
  help(): void;
  /** Returns whether there was something to stop. */
  stop(): boolean;
}

/** Listens on the page; returns how to end that. */
export function listenForShortcuts(actions: ShortcutActions): () => void {
  const listening = new AbortController();
  const listener = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing) return;
    if (handle(event, actions)) event.preventDefault();
  };
  document.addEventListener('keydown', listener, { signal: listening.signal });
  return () => listening.abort();
}

function handle(event: KeyboardEvent, actions: ShortcutActions): boolean {
  const { key, target } = event;
  const command = event.ctrlKey || event.metaKey;
  if (command && !event.altKey && !event.shiftKey && key.toLowerCase() === 'k') {
    actions.search();
    return true;
  }
  if (command && !event.altKey && event.shiftKey && key.toLowerCase() === 'o') {
    actions.newChat();
    return true;
  }
  if (key === '?' && !command && !(target instanceof Element && target.matches(FIELDS))) {
    actions.help();
    return true;
  }
  // What is open closes first, by the browser itself.
  const open = document.querySelector('dialog:modal, :popover-open');
  return key === 'Escape' && !open && actions.stop();
}
