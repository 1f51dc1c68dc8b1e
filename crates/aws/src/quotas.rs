//! The table `quotas`: what somebody has used up in a period. An item is forgotten some time after its period.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use poste_domain::ports::{Period, Quotas, Result};

use crate::{
    item::{number, text},
    trouble::{lost_condition, trouble},
};

/// Counts in DynamoDB.
pub struct QuotasTable {
    client: Client,
    table: String,
}

impl QuotasTable {
    /// On this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

#[async_trait]
impl Quotas for QuotasTable {
    async fn take(&self, name: &str, period: Period, amount: u64, most: u64) -> Result<bool> {
        let Some(before) = most.checked_sub(amount) else { return Ok(false) };
        let counted = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("quota", text(format!("{}/{name}", period.number)))
            .update_expression("ADD taken :amount SET expires_at = :expires")
            .condition_expression("attribute_not_exists(taken) OR taken <= :before")
            .expression_attribute_values(":amount", number(amount))
            .expression_attribute_values(":before", number(before))
            // A period later, so that no clock is so far off that it begins anew.
            .expression_attribute_values(":expires", number(period.end_ms() / 1_000 + period.length_s))
            .send()
            .await;
        match counted {
            Ok(_) => Ok(true),
            Err(error) if lost_condition(&error) => Ok(false),
            Err(error) => Err(trouble("quotas.take", &error)),
        }
    }
}
