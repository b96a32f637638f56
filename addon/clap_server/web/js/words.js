// What thresholds promise, in the server's words.

const A_DAY = { "an hour": 24, "a day": 1, "a week": 1 / 7, "a month": 1 / 30, "a year": 1 / 365 };
const MOST_A_DAY = 1440;
// From so much of a unit on, a rate is told by it: a little under one still is about one.
const LEAST = 0.75;
const OVER_ONE = 1.5;

// By the definition of scores: 0.7 is one false alarm a day, each 0.14 more a tenth of that.
export function promiseWords(threshold) {
  const perDay = 10 ** ((0.7 - threshold) / 0.14);
  if (perDay > MOST_A_DAY) return "more than one false alarm a minute";
  for (const [unit, rate] of Object.entries(A_DAY)) {
    const count = perDay / rate;
    if (count >= OVER_ONE) return `about ${count.toFixed(0)} false alarms ${unit}`;
    if (count >= LEAST) return `about one false alarm ${unit}`;
  }
  return "less than one false alarm a year";
}
