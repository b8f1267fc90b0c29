/** The keys that work here. */

import { Dialog } from './Dialog';
import { Icon } from './Icon';

const SHORTCUTS: readonly (readonly [keys: string, does: string])[] = [
  ['Enter', 'Send the message'],
  ['Shift + Enter', 'New line'],
  ['Esc', 'Stop the answer, or close what is open'],
  ['↑', 'In an empty field: bring back your last message'],
  [`${commandKey()} + K`, 'Search chats and messages'],
  [`${commandKey()} + Shift + O`, 'New chat'],
  ['?', 'Show these keys'],
];

function commandKey(): string {
  return /Mac|iPhone|iPad/.test(navigator.userAgent) ? '⌘' : 'Ctrl';
}

export function ShortcutsDialog({ onClose }: { onClose(): void }) {
  return (
    <Dialog className="dialog" label="Keyboard shortcuts" onClose={onClose}>
      {(close) => (
        <>
          <div class="dialog-head">
            <h2>Keyboard shortcuts</h2>
            <button type="button" class="icon-button" aria-label="Close" onClick={close}>
              <Icon name="close" />
            </button>
          </div>
          <dl class="shortcuts">
            {SHORTCUTS.map(([keys, does]) => (
              <div key={does}>
                <dt>
                  {keys.split(' + ').map((key) => (
                    <kbd key={key}>{key}</kbd>
                  ))}
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
        </>
      )}
    </Dialog>
  );
}
