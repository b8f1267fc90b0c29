/** What stands where there is nothing to show, and where to go from there. */

import { AGENTS } from './route';

export function UnknownPage() {
  return (
    <section class="page">
      <h1>There is nothing at this address</h1>
      <p>
        <a href={AGENTS}>Choose an agent</a> to start a chat, or open one from the list.
      </p>
    </section>
  );
}

export function NoAgents() {
  return (
    <div class="notice">
      <p>
        There are no agents yet. Add one to <code>agents.toml</code> where the server runs, and
        restart the server:
      </p>
      <pre class="example">
        {'[[agents]]\nid = "helper"\nname = "Helper"\nmodel = "demo"   # needs no key'}
      </pre>
    </div>
  );
}
