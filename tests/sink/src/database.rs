//! The two tables, and the one transaction that changes them.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls, Transaction};

use crate::batch::Batch;

/// Connections kept for the next request.
const MAX_IDLE: usize = 8;

/// `arrival` numbers the rows in the order in which they were stored. There is no unique key on
/// purpose: the tests look for records that are there twice.
const TABLES: &str = "
    create table if not exists tidegate_cursors (
        gateway text not null,
        stream text not null,
        epoch bigint not null,
        committed bigint not null,
        primary key (gateway, stream, epoch)
    );
    create table if not exists tidegate_records (
        arrival bigint generated always as identity,
        gateway text not null,
        stream text not null,
        epoch bigint not null,
        seq bigint not null,
        time_ms bigint not null,
        topic text not null,
        client text not null,
        key text,
        payload bytea not null,
        more text not null
    );
    -- Tables of before records had keys.
    alter table tidegate_records add column if not exists key text;";

/// A PostgreSQL database; connections are made as they are needed.
pub struct Database {
    config: Config,
    idle: Mutex<Vec<Client>>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Everything up to here is stored, durably.
    Committed(u64),
    /// Only this is: records are missing before the batch. Nothing was changed.
    Gap(u64),
}

/// A line of the answer to the question for cursors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Name of the stream.
    pub stream: String,
    /// Its epoch.
    pub epoch: u32,
    /// The highest sequence stored in it.
    pub committed: u64,
}

impl Database {
    /// Reads a connection string of libpq; does not connect yet.
    ///
    /// # Errors
    /// When the string is wrong.
    pub fn new(config: &str) -> Result<Database> {
        let config = config.parse().context("the connection string is wrong")?;
        Ok(Database { config, idle: Mutex::default() })
    }

    /// The cursors of a gateway, the newest epoch of each stream.
    ///
    /// # Errors
    /// When the database cannot be reached or asked.
    pub async fn cursors(&self, gateway: &str) -> Result<Vec<Cursor>> {
        let client = self.client().await?;
        let newest = "select distinct on (stream) stream, epoch, committed from tidegate_cursors
            where gateway = $1 order by stream, epoch desc";
        let rows = client.query(newest, &[&gateway]).await?;
        let cursors = rows.iter().map(|row| {
            let (epoch, committed): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            let (epoch, committed) = (u32::try_from(epoch)?, u64::try_from(committed)?);
            Ok(Cursor { stream: row.try_get(0)?, epoch, committed })
        });
        let cursors = cursors.collect::<Result<_>>()?;
        self.keep(client);
        Ok(cursors)
    }

    /// Steps 1 to 4 of the contract, in one transaction.
    ///
    /// # Errors
    /// When the database cannot be reached or fails; then nothing is stored, or everything is and
    /// the answer was lost: sending again is safe.
    pub async fn store(&self, batch: &Batch, after: u64) -> Result<Stored> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let committed = lock(&transaction, batch).await?;
        let last = batch.records.last().map_or(0, |record| record.seq);
        let stored = if committed >= last {
            Stored::Committed(committed)
        } else if committed < after {
            Stored::Gap(committed)
        } else {
            insert(&transaction, batch, committed).await?;
            advance(&transaction, batch, last).await?;
            Stored::Committed(last)
        };
        match stored {
            // Returns when the commit is on disk.
            Stored::Committed(_) => transaction.commit().await?,
            Stored::Gap(_) => transaction.rollback().await?,
        }
        self.keep(client);
        Ok(stored)
    }

    async fn client(&self) -> Result<Client> {
        let idle = self.lock().pop();
        if let Some(client) = idle.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let (client, connection) =
            self.config.connect(NoTls).await.context("cannot reach the database")?;
        tokio::spawn(async move {
            // Its error reaches the request that it interrupts.
            let _ = connection.await;
        });
        client.batch_execute(TABLES).await.context("cannot make the tables")?;
        Ok(client)
    }

    /// A connection that failed never comes here: it is dropped with its error.
    fn keep(&self, client: Client) {
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(client);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the committed sequence, and keeps everybody else from doing so until the end of the
/// transaction: a request whose connection broke may still be at work here.
async fn lock(transaction: &Transaction<'_>, batch: &Batch) -> Result<u64> {
    let epoch = i64::from(batch.epoch);
    let first = "insert into tidegate_cursors values ($1, $2, $3, 0) on conflict do nothing";
    transaction.execute(first, &[&batch.gateway, &batch.stream, &epoch]).await?;
    let read = "select committed from tidegate_cursors
        where gateway = $1 and stream = $2 and epoch = $3 for update";
    let row = transaction.query_one(read, &[&batch.gateway, &batch.stream, &epoch]).await?;
    Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
}

async fn insert(transaction: &Transaction<'_>, batch: &Batch, committed: u64) -> Result<()> {
    let new: Vec<_> = batch.records.iter().filter(|record| record.seq > committed).collect();
    let seqs = new.iter().map(|record| i64::try_from(record.seq));
    let seqs: Vec<i64> = seqs.collect::<Result<_, _>>().context("a sequence beyond 2^63")?;
    let times: Vec<i64> = new.iter().map(|record| record.unix_ms).collect();
    let topics: Vec<&str> = new.iter().map(|record| &*record.topic).collect();
    let clients: Vec<&str> = new.iter().map(|record| &*record.client).collect();
    let keys: Vec<Option<&str>> = new.iter().map(|record| record.key.as_deref()).collect();
    let payloads: Vec<&[u8]> = new.iter().map(|record| &*record.payload).collect();
    let more: Vec<String> = new.iter().map(|record| record.more.to_string()).collect();
    let rows = "insert into tidegate_records
        (gateway, stream, epoch, seq, time_ms, topic, client, key, payload, more)
        select $1::text, $2::text, $3::bigint, * from unnest
        ($4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::bytea[], $10::text[])";
    let epoch = i64::from(batch.epoch);
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
        &batch.gateway,
        &batch.stream,
        &epoch,
        &seqs,
        &times,
        &topics,
        &clients,
        &keys,
        &payloads,
        &more,
    ];
    transaction.execute(rows, &values).await?;
    Ok(())
}

async fn advance(transaction: &Transaction<'_>, batch: &Batch, last: u64) -> Result<()> {
    let write = "update tidegate_cursors set committed = $4
        where gateway = $1 and stream = $2 and epoch = $3";
    let (epoch, last) = (i64::from(batch.epoch), i64::try_from(last)?);
    transaction.execute(write, &[&batch.gateway, &batch.stream, &epoch, &last]).await?;
    Ok(())
}
