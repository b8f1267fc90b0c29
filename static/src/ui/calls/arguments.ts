/** Arguments of a tool, as people write them. */

type Parsed =
  { args: Record<string, unknown>; problem?: undefined } | { args?: undefined; problem: string };

export function parseArguments(text: string): Parsed {
  let args: unknown;
  try {
    args = JSON.parse(text);
  } catch (error) {
    return { problem: `This is not JSON: ${error instanceof Error ? error.message : ''}` };
  }
  if (typeof args !== 'object' || args === null || Array.isArray(args)) {
    return { problem: 'Arguments are a JSON object: names and values in { }.' };
  }
  return { args: args as Record<string, unknown> };
}
