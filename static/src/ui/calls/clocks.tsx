/** Times that go on: seen, and never read out by themselves. */

import { useEffect, useState } from 'preact/hooks';
import { duration } from '../time';

/** How long ago something began. The server's clock may be ahead of ours. */
export function Since({ at }: { at: string }) {
  const seconds = Math.floor(Math.max(0, useNow() - Date.parse(at)) / 1_000);
  return <span class="tool-time">{seconds > 0 && wholeSeconds(seconds)}</span>;
}

/** How much time is left until something. */
export function Left({ until }: { until: string }) {
  const seconds = Math.ceil((Date.parse(until) - useNow()) / 1_000);
  return <span class="tool-time">{leftText(seconds)}</span>;
}

function wholeSeconds(seconds: number): string {
  return seconds < 60 ? `${seconds} s` : duration(seconds * 1_000);
}

export function leftText(seconds: number): string {
  if (seconds <= 0) return 'The time to answer is over';
  return seconds > 90
    ? `${Math.ceil(seconds / 60)} min left to answer`
    : `${seconds} s left to answer`;
}

/** The time, by the second. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
