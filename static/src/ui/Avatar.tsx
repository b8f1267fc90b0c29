/** An agent's first letter, for those who look for a shape rather than a name. */

export function Avatar({ name }: { name: string }) {
  return (
    <span class="avatar" aria-hidden="true">
      {[...name][0]?.toUpperCase()}
    </span>
  );
}
