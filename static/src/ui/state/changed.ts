/** Marks what has changed, for a moment. */

import { useEffect, useRef, useState } from 'preact/hooks';

const MARKED_MS = 1_500;

/** Whether a value is another one than a moment ago. What is new as a whole is not marked. */
export function useChanged(value: unknown): boolean {
  const before = useRef(value);
  const [isMarked, mark] = useState(false);
  useEffect(() => {
    if (before.current === value) return undefined;
    before.current = value;
    mark(true);
    const timer = setTimeout(() => mark(false), MARKED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return isMarked;
}
