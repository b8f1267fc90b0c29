/** What is said to whoever uses the page, by voice or in passing. */

import { signal } from '@preact/signals';

/** Read aloud when convenient. */
export const announcement = signal('');

/** Read aloud at once. */
export const alarm = signal('');

/** Shown until it is dismissed. */
export const warning = signal('');

export function announce(text: string): void {
  announcement.value = distinct(announcement.value, text);
}

/** For what stands in the page already. */
export function sound(text: string): void {
  alarm.value = distinct(alarm.value, text);
}

export function warn(text: string): void {
  warning.value = text;
  sound(text);
}

/** The same words again would be no change, and would not be read. */
function distinct(before: string, text: string): string {
  return before === text ? `${text}\u00a0` : text;
}
