/** What the user may want to say next: a click says it. */

import { useLayoutEffect, useRef } from 'preact/hooks';
import { isWide } from '../media';

interface Props {
  items: readonly string[];
  onChosen(text: string): void;
}

export function Suggestions({ items, onChosen }: Props) {
  const list = useRef<HTMLUListElement>(null);
  useLayoutEffect(
    () => () => {
      // They go when one is chosen. On phones, a focused field would bring up the keyboard.
      if (!list.current?.contains(document.activeElement)) return;
      const next = isWide.peek() ? '.composer textarea' : '.viewport';
      document.querySelector<HTMLElement>(next)?.focus({ preventScroll: true });
    },
    [],
  );
  return (
    <ul ref={list} class="suggestions" aria-label="Suggestions">
      {[...new Set(items)].map((text) => (
        <li key={text}>
          <button type="button" class="chip" dir="auto" onClick={() => onChosen(text)}>
            {text}
          </button>
        </li>
      ))}
    </ul>
  );
}
