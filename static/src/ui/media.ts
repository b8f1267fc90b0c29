/** What the screen allows. */

import { signal, type ReadonlySignal } from '@preact/signals';

function matches(query: string): ReadonlySignal<boolean> {
  const media = matchMedia(query);
  const now = signal(media.matches);
  media.addEventListener('change', () => (now.value = media.matches));
  return now;
}

/** Room for the sidebar beside the chat; the same width as in the style sheet. */
export const isWide = matches('(min-width: 60rem)');
