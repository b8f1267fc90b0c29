/** Components whose code comes when they are first shown: what most visits do not need. */

import type { FunctionComponent } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { warn } from './notices';

export function lazily<P extends object>(
  load: () => Promise<FunctionComponent<P>>,
): FunctionComponent<P> {
  let loaded: FunctionComponent<P> | undefined;
  return function Lazily(props) {
    const [Part, setPart] = useState(() => loaded);
    useEffect(() => {
      if (Part) return;
      load().then(
        (part) => setPart(() => (loaded = part)),
        () => warn('A part of the page could not be loaded. Reload the page and try again.'),
      );
    }, []);
    return Part ? <Part {...props} /> : null;
  };
}
